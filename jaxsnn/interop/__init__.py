"""Networks and weights to and from other libraries."""
