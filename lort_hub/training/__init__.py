"""Train a backbone (stage 1): batches, trainable weights, checkpoints, early stopping."""
