"""What every interface plugin does around its few lines."""
