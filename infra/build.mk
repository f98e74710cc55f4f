# What `sam build` runs for each function (Metadata: BuildMethod: makefile). Needs Python 3.13 with pip, and make.
here := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))

build-TerminateFunction build-SweepFunction:
	"$$("$(here)find-python")" -B -I "$(here)artefact.py" "$(ARTIFACTS_DIR)"
