"""``mta import postfix``: what a configuration of Postfix becomes here. Read, translated, written; nothing is run."""
