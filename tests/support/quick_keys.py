"""The API as `python -m tests.support.quick_keys`: it fetches and forgets keys as quickly as tests need it."""

from api.__main__ import main
from api.access import keyring, provider

provider.FETCH_EVERY = 0.2
keyring.GRACE = 2.0

if __name__ == "__main__":
    main()
