"""What comes out: recommendations of a trained model, for users of its data and for new ones, and its model card."""
