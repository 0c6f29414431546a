"""A run so small that training it takes a blink."""

TINY = """
data: {name: digits, binarize: dynamic, limit: 64}
model:
  encoder: {kind: mlp, hidden: [8]}
  decoder: {kind: mlp, hidden: [8]}
  posterior: {kind: gaussian, latent: 2}
companion: {kind: classifier, hidden: [8]}
training: {epochs: 2, batch: 32, threads: 1}
"""
