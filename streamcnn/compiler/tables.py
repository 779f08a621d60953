"""The columns of the tables that the plan fills and the compiled interpreter reads.

Rules. Every tensor of the graph is a *line*: a buffer of frames, channels last, inside one float32 arena. Line 0 holds the
stream's own frames, line k+1 what node k makes. Frames are numbered from the session's start for ever; a line knows the
number of frames it has ever held (COUNT) and which one stands at its start (BASE). Frames with negative numbers are
the zeros that Keras pads with, and so are, once the signal has ended, those from COUNT on.
"""

# Lines: where in the arena, values of a frame, frames that fit, frames that must stay when room is made, and zero frames
# that are read behind the last one when the signal has ended.
OFFSET, CHANNELS, CAPACITY, HISTORY, TAIL = range(5)
LINE_COLUMNS = 5
# What changes of a line.
COUNT, BASE = range(2)
COUNTER_COLUMNS = 2

# Nodes: the operation, the lines it reads (INPUTS of them from LINKS on in the table of links) and writes, its frame rule
# (NEWEST with the frames to wait for),
# the values of a frame of its first input and of its output ...
OP, LINKS, INPUTS, LINE_IN, LINE_OUT, UP, DOWN, OLDEST, NEWEST, RULE_TAIL, C_IN, C_OUT = range(12)
# ... the activation: its number, where its arguments stand among the weights, and the length of the axis it works on ...
FUNCTION, ARGUMENTS, WIDTH = range(12, 15)
# ... and what else the operation needs, under its own names.
A, B, C, D, E, F, G = range(15, 22)
NODE_COLUMNS = 27
TAPS, DILATION, GROUPS, KERNEL, BIAS, ROWS = A, B, C, D, E, F  # convolutions and dense products
CROP = F  # transposed convolutions
POOL, MEAN = A, B  # pooling
SCALE, SHIFT, CENTER = A, B, C  # affine, normalize (the first two), prelu (SCALE)
BY, EPSILON = C, D  # normalize, merge (BY)
INDICES = A  # select: where its indices stand among the links
BAND_TAPS, BAND_STRIDE, BAND_DILATION, BAND_LEFT, BANDS_IN, BANDS_OUT = range(21, 27)  # layers on planes
HEADS, ATTENTION_SCALE, CAUSAL = A, B, C
SPAN, FFT, RESULT, MIRRORED, SPECTRUM_WINDOW, CONSTANTS, FACTORS = A, B, C, D, E, F, G  # spectrum
PAIRS, ANGLE = A, B  # polar
COEFFICIENTS = A  # pre-emphasis
STATE, RECURRENT, RECURRENT_BIAS, GATE, GATE_ARGUMENTS = A, B, C, F, G  # recurrent layers, with KERNEL and BIAS
CANDIDATE = 22  # of a GRU that resets before the product: the part of the recurrent weights for its candidate

NOTHING = -1  # where an optional array is missing

(CONV, CONV_TRANSPOSE, FUNCTION_ONLY, GLU, PRELU, AFFINE, NORMALIZE, SELECT, POOLING, COPY, MERGE, CONCATENATE,
 CONV_2D, POOLING_2D, ATTENTION, SPECTRUM, POLAR, PREEMPHASIS, SIMPLE_RNN, LSTM, GRU_AFTER, GRU_BEFORE) = range(22)  # fmt: skip
BY_LAYER, BY_RMS, BY_UNIT, BY_PEAK = range(4)
MAGNITUDE, POWER, COMPLEX = range(3)
ADD, SUBTRACT, MULTIPLY, AVERAGE, MAXIMUM, MINIMUM = range(6)

# Steps of a window of a clip net: compute the frames FIRST to before END of a node (its row among the window's), copy them from
# line FROM (each window ADVANCE frames further on) to line TO, or forget a state (FIRST to before END in the arena).
KIND, NODE, FROM, TO, FRAME_FIRST, FRAME_END, ADVANCE = range(7)
STEP_COLUMNS = 7
COMPUTE, TAKE, FORGET = range(3)
