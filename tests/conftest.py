"""What all tests share."""

from hypothesis import settings

# How long an example takes is the machine's affair.
settings.register_profile("rafiki", deadline=None)
settings.load_profile("rafiki")
