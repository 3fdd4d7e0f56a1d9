from xnet.frame import Frames

def receive(
    fd: int, memory: memoryview, addr: int, size: int, most: int, header: bytearray, last: bytes, /
) -> tuple[list[int], int]: ...
def send(
    fd: int, memory: memoryview, frames: Frames, at: int, header: bytes, word: int, shape: int, gro: bool, /
) -> tuple[int, int, int]: ...
