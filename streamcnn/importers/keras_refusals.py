"""The Keras layers that do not become records: those that vanish, and those that are refused, with why and what to do.

Each reason goes on after the layer's name: "Flatten makes one vector of the whole signal".
"""

VANISHING = (
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity", "InputLayer",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
)  # fmt: skip

CLIP_REMEDY = "give the length of a clip (--clip-frames N): a window of it then slides over the stream"
CLIP_ONLY = {
    "Attention": "compares every frame with every other one",
    "Bidirectional": "also runs backwards from the signal's end",
    "Flatten": "makes one vector of the whole signal",
    "GlobalAveragePooling1D": "averages over the whole signal",
    "GlobalAveragePooling2D": "averages over the whole signal",
    "GlobalMaxPooling1D": "takes the maximum of the whole signal",
    "GlobalMaxPooling2D": "takes the maximum of the whole signal",
    "GroupNormalization": "normalizes by the mean and variance of the whole signal",
    "GroupQueryAttention": "compares every frame with every other one",
    "MultiHeadAttention": "compares every frame with every other one",
    "RepeatVector": "turns one vector into a signal",
}

UNKNOWN = "is a layer that this version does not know"
_REMEDY = "take it out, or replace it by layers that docs/layers.md lists as exact"
_IMAGES = "works on images or volumes, not on a signal along time"
_PREPROCESSING = "prepares text, images or tables, not a sampled signal"
_REMEDIES = {"Lambda": "express it with Keras' own layers", "Masking": "leave out the mask: a stream has no padding"}
REFUSED = {
    "Lambda": "runs code that came with the model",
    "Masking": "leaves out frames by what they hold, so that its output depends on the data in ways no stream declares",
    "Embedding": "looks up whole numbers, which samples are not",
    "EinsumDense": "multiplies along axes that an equation names, time among them",
    "Dot": "multiplies tensors along axes of choice, time among them",
    "ReversibleEmbedding": "looks up whole numbers, which samples are not",
    "AdaptiveAveragePooling1D": "divides the whole signal into a given number of parts",
    "AdaptiveMaxPooling1D": "divides the whole signal into a given number of parts",
    "AdditiveAttention": "compares every frame with every other one",
    "ConvLSTM1D": "has states that are images",
    "ConvLSTM2D": "has states that are images",
    "ConvLSTM3D": "has states that are images",
    **dict.fromkeys(
        ("Conv3D", "Conv2DTranspose", "Conv3DTranspose", "MaxPooling3D", "AveragePooling3D", "AdaptiveAveragePooling2D",
         "AdaptiveAveragePooling3D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D", "GlobalAveragePooling3D",
         "GlobalMaxPooling3D", "UpSampling3D", "ZeroPadding3D", "Cropping3D"),
        _IMAGES,
    ),
    **dict.fromkeys(
        ("Layer", "Wrapper", "StackedRNNCells", "GRUCell", "LSTMCell", "SimpleRNNCell", "JaxLayer", "FlaxLayer",
         "TFSMLayer", "TorchModuleWrapper"),
        "is a base or a shell of other code, not a layer with a meaning of its own",
    ),
    **dict.fromkeys(
        ("AugMix", "AutoContrast", "CategoryEncoding", "CenterCrop",
         "ContrastLimitedAdaptiveHistogramEqualization", "CutMix", "Discretization", "Equalization",
         "HashedCrossing", "Hashing", "IntegerLookup", "MaxNumBoundingBoxes", "MixUp", "Pipeline", "RandAugment",
         "RandomApply", "RandomBrightness", "RandomChoice", "RandomColorDegeneration", "RandomColorJitter",
         "RandomContrast", "RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur",
         "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
         "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "Resizing",
         "Solarization", "StringLookup", "TextVectorization"),
        _PREPROCESSING,
    ),
}  # fmt: skip


def remedy(kind: str) -> str:
    """Return the way out for a layer that is refused."""
    return _REMEDIES.get(kind, _REMEDY)
