"""What runs a model or a network for evaluation: features of samples, prices of documents, over all devices."""
