"""Real programs on loopback that the tests exchange mail with: started, waited for, ended."""
