"""Scores of the text of reports: RadGraph F1 and CheXbert F1 through the packages that published them, BLEU, ROUGE."""
