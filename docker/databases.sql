-- Tiebreak's database is the one that the server makes by itself; Label Studio has its own beside it.
CREATE DATABASE label_studio;
