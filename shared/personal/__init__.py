"""Personal data: which fields hold it, and the ciphers under whose keys it rests in the stores."""
