"""Reading of Internet messages: headers, structure by offsets, decoding, previews. Pure; never raises on any input."""
