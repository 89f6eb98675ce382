"""``jmapplug demo``: an embedded IMAP server, an SMTP sink delivering into it, sample mail, the proxy in front."""
