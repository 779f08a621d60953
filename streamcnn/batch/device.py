"""What Keras computes on."""


def device(keras: object) -> tuple[str, str]:
    """Return "gpu" or "cpu", and the device's name for people."""
    backend = keras.backend.backend()
    match backend:
        case "tensorflow":
            import tensorflow

            found = tensorflow.config.list_physical_devices("GPU")
            names = [tensorflow.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in found]
        case "jax":
            import jax

            names = [gpu.device_kind for gpu in jax.devices() if gpu.platform != "cpu"]
        case "torch":
            import torch

            names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        case _:
            names = []
    return ("gpu", f"{names[0]} ({backend})") if names else ("cpu", f"the CPU ({backend})")
