"""``etc/`` read whole, checked, and handed out as frozen values (design: edit, reload, swap).

`sections` holds the shape (every setting, its unit, default and source), `reader.load` reads ``mta.toml`` into it,
`domains` reads the directory of a domain, `directory` answers what an address is. Everything wrong is reported at
once, as `problem.SettingsRefused`. Nothing here is read again after the load: a reload makes new values.
"""
