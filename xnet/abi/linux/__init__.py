"""Linux's user-space ABI (``include/uapi/linux``) as far as TAPs and their offloads need it."""
