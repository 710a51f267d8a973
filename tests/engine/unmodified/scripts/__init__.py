"""Scripts as users of pytorch-ignite write them; they know nothing of this package."""
