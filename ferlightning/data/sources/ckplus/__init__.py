"""CK+ (Lucey et al. 2010): its layouts, its recordings as stills or clips, and its folds."""

from ferlightning.data.sources.ckplus.datamodule import CKPlus as CKPlus
from ferlightning.data.sources.ckplus.readers import LAYOUTS as LAYOUTS
from ferlightning.data.sources.ckplus.readers import find as find
