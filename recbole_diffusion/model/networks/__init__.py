"""Networks and autograd functions that several families share."""
