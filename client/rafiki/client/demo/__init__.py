"""`rafiki demo`: the whole path once, from real images to a network found for them."""
