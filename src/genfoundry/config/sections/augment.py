"""Block `training.augment`, a file of its own so that a family that reads it depends on no other training setting."""

from pydantic import Field

from genfoundry.config.specs import Section


class Augment(Section):
    """Changes of training images, each drawn for each image; evaluation never sees them.

    An adversarial family shows them to its critic on real and generated images alike, so that the generator does not
    learn them (Zhao et al. 2020, arXiv:2006.10738; Karras et al. 2020, arXiv:2006.06676: keep ``p`` below 0.8).
    """

    p: float = Field(default=1.0, ge=0, le=1)
    """Probability with which each of the changes below is applied to an image."""
    flip: bool = False
    """Mirror left and right (half of the images at p 1)."""
    translate: float = Field(default=0.0, ge=0, le=0.5)
    """Farthest shift by whole pixels, as a share of each side; what is left free takes the darkest value."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest side of a crop, as a share of the side; it is resized back bilinearly."""
    cutout: float = Field(default=0.0, ge=0, lt=1)
    """Side of a square that is set to the middle of the range, as a share of the side (arXiv:1708.04552)."""
