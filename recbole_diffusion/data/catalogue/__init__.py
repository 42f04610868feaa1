"""The catalogue of data sets that can be fetched: addresses, checksums, licences, citations."""
