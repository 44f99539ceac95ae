"""Downloads over landscapes whose truth is known, with a geometry of their own."""
