"""`python -m streamcnn` is `streamcnn`."""

from streamcnn.cli import main

main()
