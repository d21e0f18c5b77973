# IMAGES, CLASSES, PYTHON, LABEL_STUDIO_URL and every TIEBREAK_… setting may be given here too:
#   make run IMAGES=photos CLASSES=cat,dog TIEBREAK_PORT=9191

.PHONY: help run test lint lock clean
.DEFAULT_GOAL := help

help:
	@echo "make run     install what is missing, start everything, print the link to open"
	@echo "             make run IMAGES=some/folder CLASSES=cat,dog  for your own images"
	@echo "make test    install what the tests need, then run every check and test"
	@echo "make lint    the checks without the tests"
	@echo "make lock    remake the lock files (UPGRADE=1: with the newest versions)"
	@echo "make clean   remove what was installed and cached; .tiebreak, your data, stays"

run:
	@exec scripts/run

test:
	@exec scripts/test

lint:
	@exec scripts/test lint

lock:
	@exec scripts/lock

clean:
	@exec scripts/clean
