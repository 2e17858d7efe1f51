"""Embeddings of faces by dlib's network; run by ``anonymity.py`` in an environment of its own.

    python identity_side.py FACES.npy EMBEDDINGS.npy

FACES are (N, 150, 150, 3) RGB. Needs dlib-bin, face-recognition-models, numpy.
"""

import sys

import dlib
import face_recognition_models
import numpy as np

encoder = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
faces = np.load(sys.argv[1])
np.save(sys.argv[2], np.array([encoder.compute_face_descriptor(np.ascontiguousarray(face)) for face in faces]))
