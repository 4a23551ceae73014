"""Administration: the acts that the command line asks for, one literal table (`desk.ACTS`)."""
