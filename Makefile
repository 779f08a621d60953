# Two commands are all there is to remember: `make run` and `make test`. Both make their own environment in .venv.
# `sudo make install` puts the daemon into an environment of its own, with the units that run it.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PREFIX ?= /opt/streamcnn
UNITS  ?= /etc/systemd
WORKERS ?= $(shell expr $$(nproc) + 1)# many tests wait for something

.PHONY: run test lint install clean system-libraries

run: $(VENV)/.installed-run system-libraries
	@exec $(BIN)/streamcnn run $(ARGS)

test: $(VENV)/.installed-test system-libraries
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal -m 'not real_time'
	@$(BIN)/python -m pytest -m real_time  # these have to keep up, and have the machine for themselves
endif

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamcnn needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing; install it: sudo apt install python3-venv" >&2; exit 2; }

$(VENV)/.installed-run: pyproject.toml | $(BIN)/python
	@echo "installing streamcnn into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[plot]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "installing streamcnn and its test tools (with TensorFlow, as the oracle) into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed-run

# PortAudio is the one system library, and only sound cards need it: without it everything else works.
system-libraries: | $(BIN)/python
	@$(BIN)/python -c 'import ctypes.util, sys; sys.exit(ctypes.util.find_library("portaudio") is None)' || \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing PortAudio (libportaudio2) ..." >&2; \
	    { apt-get install -y -qq libportaudio2 || { apt-get update -qq && apt-get install -y -qq libportaudio2; }; } >/dev/null 2>&1 \
	      || echo "PortAudio could not be installed; sound cards will not work until you do: apt install libportaudio2" >&2; \
	  else \
	    echo "PortAudio is not installed; sound cards will not work until you do: sudo apt install libportaudio2" >&2; \
	  fi

# It uses nothing of the environment in .venv, which belongs to the user who made it, not to root.
install:
	@case '$(PREFIX)' in /*) ;; *) echo "PREFIX is '$(PREFIX)', expected an absolute path" >&2; exit 2;; esac
	@case '$(PREFIX)$(UNITS)' in *[!A-Za-z0-9/._-]*) \
	  echo "PREFIX and UNITS may hold letters, digits, '.', '_' and '-' only" >&2; exit 2;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamcnn needs Python 3.11 or newer; name one with: make PYTHON=python3.12 install" >&2; exit 2; }
	@$(PYTHON) -c 'import ctypes.util, sys; sys.exit(ctypes.util.find_library("portaudio") is None)' || \
	  echo "PortAudio is not installed; sound cards will not work until you do: apt install libportaudio2" >&2
	@$(PYTHON) -m venv $(PREFIX)
	@echo "installing streamcnn into $(PREFIX) ..." >&2
	@$(PREFIX)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade .
	@for scope in system user; do install -d $(UNITS)/$$scope; done
	@sed 's|/opt/streamcnn|$(PREFIX)|' 'systemd/streamcnn@.service' > '$(UNITS)/system/streamcnn@.service'
	@sed 's|/opt/streamcnn|$(PREFIX)|' 'systemd/user/streamcnn@.service' > '$(UNITS)/user/streamcnn@.service'
	@echo "installed; now write /etc/streamcnn/NAME.yaml and:" \
	  "systemctl daemon-reload; systemctl enable --now streamcnn@NAME" >&2

clean:
	rm -rf $(VENV) build dist
