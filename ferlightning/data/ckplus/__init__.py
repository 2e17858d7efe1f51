"""CK+ (Lucey et al. 2010): its layouts, its recordings as stills or clips, and its folds."""

from ferlightning.data.ckplus.datamodule import CKPlus as CKPlus
from ferlightning.data.ckplus.readers import LAYOUTS as LAYOUTS
from ferlightning.data.ckplus.readers import find as find
