"""Commands and files on other machines, by the system's OpenSSH."""
