"""What a model has to beat: answers that need no model, made of the training images and their reports."""
