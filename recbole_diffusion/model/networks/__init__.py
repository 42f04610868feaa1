"""Networks and autograd functions shared by several families of models."""
