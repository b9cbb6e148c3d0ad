"""From a model folder to samples; latent spaces; bases.

Door: generator, modelfile, prompts, sampling.
"""
