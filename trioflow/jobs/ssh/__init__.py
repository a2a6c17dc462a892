"""Commands and file transfers on other machines, through the system's OpenSSH."""
