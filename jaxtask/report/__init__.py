"""Results as a person reads them: findings in words, figures, one HTML page."""
