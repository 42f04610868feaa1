"""Ray sessions: started for one command on this machine, or joined in a cluster."""
