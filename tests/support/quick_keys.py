"""The API as `python -m tests.support.quick_keys`: it fetches an identity provider's keys as often as tests need it."""

from api.__main__ import main
from api.access import provider

provider.FETCH_EVERY = 0.2

if __name__ == "__main__":
    main()
