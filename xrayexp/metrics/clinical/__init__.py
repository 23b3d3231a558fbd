"""RadGraph F1 and CheXbert F1, through the packages that published them."""
