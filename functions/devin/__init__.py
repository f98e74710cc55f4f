import warnings

# requests says so of the artefact, which has no package to guess the encoding of a text: nothing here asks for a guess.
warnings.filterwarnings("ignore", message="Unable to find acceptable character detection dependency")
