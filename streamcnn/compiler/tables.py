"""The columns of the tables that the plan fills, the engine links, and the compiled interpreter reads.

Rules. Every tensor of the graph is a *line*: a buffer of frames inside one float32 arena, channels last, or planar, where
the frames of a channel lie side by side. Line 0 holds the stream's own frames, line k+1 what node k makes. Frames are
numbered from the session's start for ever; a line knows the number of frames it has ever held (COUNT), where frame 0
would stand (ORIGIN), and how many frames it may have held before room must be made (LIMIT). Frames with negative numbers are
the zeros that Keras pads with, and so are, once the signal has ended, those from COUNT on.

A plan's tables say where things are in the arena and among the weights; the engine links a copy of them to its own memory, by
filling in addresses: those columns are named LINKED (ORIGIN, of a line, is one too: in a plan it counts from the arena's
start).
"""

# Lines: what changes ...
ORIGIN, COUNT, LIMIT = range(3)
# ... values of a frame, bytes from a frame to the next and from a channel to the next, frames that fit, frames that must
# stay when room is made, zero frames that are read behind the last one when the signal has ended, and by how many frames
# the line moves back to make room; MIRRORED lines hold each frame there already.
CHANNELS, FRAME_STEP, CHANNEL_STEP, CAPACITY, HISTORY, TAIL, SHIFT, MIRRORED = range(3, 11)
LINE_COLUMNS = 11

# Nodes: the operation, the lines it reads (INPUTS of them from LINKS on in the table of links) and writes, its frame rule
# (NEWEST with the frames to wait for), the values of a frame of its first input and of its output ...
OP, LINKS, INPUTS, LINE_IN, LINE_OUT, UP, DOWN, OLDEST, NEWEST, GRID, RULE_TAIL, C_IN, C_OUT = range(13)
# ... the activation: its number, where its arguments stand among the weights, the length of the axis it works on, and the
# bounds that the product itself is clipped to; a line whose frames are added to it before the activation (NOTHING for none,
# in a program 0), and a vector that changes nothing when it is added ...
FUNCTION, ARGUMENTS, WIDTH, BOUNDS, ADDED, NOTHING_ADDED = range(13, 19)
# ... what is LINKED: the machine code of the operation, of one for a single frame, of its activation, and of products; the
# lines it reads (a list of addresses; LINE_IN and LINE_OUT become addresses too), weights, links, scratch and float64
# scratch ...
COMPUTE, COMPUTE_ONE, ACTIVATE, PRODUCT, LINES, WEIGHTS, NUMBERS, SCRATCH, WIDE = range(19, 28)
# ... and what else the operation needs, under its own names.
A, B, C, D, E, F, G, H, J, K, L, M, N = range(28, 41)
NODE_COLUMNS = 41
TAPS, DILATION, GROUPS, KERNEL, BIAS, ROWS = A, B, C, D, E, F  # convolutions and dense products
# How tiles see a convolution: with one channel, its taps are the channels of a single tap, in one chain; steps are in bytes.
OUTPUTS, TILE_TAPS, TILE_CHANNELS, ROW_STEP, TAP_STEP, CHANNEL_STEP_IN, CHAIN = G, H, J, K, L, M, N
PARTITION, PARTITIONS, LEAD, ROOTS, SPECTRA = G, H, J, K, L  # convolutions with long kernels, with KERNEL and BIAS
CROP, PHASES = F, G  # transposed convolutions
POOL, MEAN = A, B  # pooling
SCALE, SHIFT_BY, CENTER = A, B, C  # affine, normalize (the first two), prelu (SCALE)
BY, EPSILON = C, D  # normalize, merge (BY)
INDICES = A  # select: where its indices stand among the links
BAND_TAPS, BAND_STRIDE, BAND_DILATION, BAND_LEFT, BANDS_IN, BANDS_OUT = G, H, J, K, L, M  # layers on planes, pooling
HEADS, ATTENTION_SCALE, CAUSAL = A, B, C
SPAN, FFT, RESULT, REFLECTED, SPECTRUM_WINDOW, CONSTANTS, FACTORS = A, B, C, D, E, F, G  # spectrum
PAIRS, ANGLE = A, B  # polar
COEFFICIENTS = A  # pre-emphasis
WINDOWS = A  # moving norm: where its windows stand among the links, with STATE
STATE, RECURRENT, RECURRENT_BIAS, GATE, GATE_ARGUMENTS = M, B, C, F, G  # recurrent layers, with KERNEL and BIAS
SPARE = L  # where behind a recurrent layer's own values its activations may work
CANDIDATE = H  # of a GRU that resets before the product: the part of the recurrent weights for its candidate
ACTIVATE_GATE, ACTIVATE_STATE = J, K  # LINKED: the machine code of the activations inside

NOTHING = -1  # where an optional array is missing

(CONV, CONV_PLANAR, CONV_LONG, CONV_DEPTHWISE, CONV_GROUPED, CONV_TRANSPOSE, FUNCTION_ONLY, GLU, PRELU, AFFINE, NORMALIZE,
SELECT,
 POOLING, COPY, MERGE, CONCATENATE, CONV_2D, ATTENTION, SPECTRUM, POLAR, PREEMPHASIS, SIMPLE_RNN,
 LSTM, GRU_AFTER, GRU_BEFORE, RESAMPLE, INVERSE_NORM) = range(27)  # fmt: skip
BY_LAYER, BY_RMS, BY_UNIT, BY_PEAK = range(4)
MAGNITUDE, POWER, COMPLEX = range(3)
ADD, SUBTRACT, MULTIPLY, AVERAGE, MAXIMUM, MINIMUM = range(6)

# Steps of a window of a clip net: compute the frames FIRST to before END of a node (its row among the window's), copy them from
# line FROM (each window ADVANCE frames further on) to line TO, or forget a state (FIRST to before END in the arena).
KIND, NODE, FROM, TO, FRAME_FIRST, FRAME_END, ADVANCE = range(7)
STEP_COLUMNS = 7
TAKE, FORGET, COMPUTE_FRAMES = range(3)

# The program: all that the interpreter is given of an engine, as one array; START_AT and IMAGE_AT are what lines and arena
# hold at the start (0: an arena of zeros).
(NODES_AT, NODES_COUNT, LINES_AT, LINES_COUNT, STEPS_AT, STEPS_COUNT, ROWS_AT, CLIP_FRAMES, CLIP_HOP, CHUNK_FRAMES, SCALE_AT,
 ARENA_AT, ARENA_SIZE, START_AT, IMAGE_AT) = range(15)  # fmt: skip
PROGRAM_COLUMNS = 15
