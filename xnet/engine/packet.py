"""A packet socket's frames, each with its vnet header in front, by the burst: `recvmsg` in C (`_packet.c`).

`receive` is `iov.receive` for a descriptor that takes VLAN tags out of frames and tells them beside: they are put in
again, and the header counts them. A frame that is longer than `FRAME_MAX` ends it with -EMSGSIZE, and is lost.
`iov.send` writes to either kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xnet.engine._packet import receive
else:
    try:
        from xnet.engine._packet import receive
    except ImportError:
        import socket
        from errno import EMSGSIZE

        from xnet.abi.linux.if_packet import (
            PACKET_AUXDATA,
            TP_STATUS_VLAN_TPID_VALID,
            TP_STATUS_VLAN_VALID,
            TPACKET_AUXDATA,
        )
        from xnet.abi.linux.virtio_net import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_HDR
        from xnet.engine.iov import burst
        from xnet.frame import FRAME_MAX
        from xnet.frame.ether import ETH_P_8021Q, VLAN_HLEN

        SOL_PACKET = 263
        BESIDE = socket.CMSG_SPACE(TPACKET_AUXDATA.size)
        TAG_AT = 12

        def receive(fd, memory, addr, size, most, header, last):
            try:
                sock = socket.socket(fileno=fd)
            except OSError as error:
                return [], -(error.errno or 0)

            def take(addr):
                room = memory[addr : addr + FRAME_MAX - VLAN_HLEN]
                got, beside, flags, _ = sock.recvmsg_into((header, room), BESIDE, socket.MSG_DONTWAIT)
                if flags & socket.MSG_TRUNC:
                    raise OSError(EMSGSIZE, "a frame is too long")
                length = max(0, got - len(header))
                return length and length + tag_again(memory, addr, length, header, beside)

            try:
                return burst(take, addr, size, most, header, last)
            finally:
                sock.detach()

        def tag_again(memory, addr, length, header, beside):
            """Put the tag that was told beside a frame into it: by how many bytes it grows."""
            tags = [data for level, kind, data in beside if (level, kind) == (SOL_PACKET, PACKET_AUXDATA)]
            if not tags or length < TAG_AT:
                return 0
            status, _, _, _, _, tci, tpid = TPACKET_AUXDATA.unpack(tags[0])
            if not status & TP_STATUS_VLAN_VALID:
                return 0
            tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else ETH_P_8021Q
            at = addr + TAG_AT
            memory[at + VLAN_HLEN : addr + length + VLAN_HLEN] = bytes(memory[at : addr + length])
            memory[at : at + VLAN_HLEN] = tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")
            flags, kind, headers, segment, start, offset = VNET_HDR.unpack(header)
            if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
                headers += VLAN_HLEN if kind else 0
                VNET_HDR.pack_into(header, 0, flags, kind, headers, segment, start + VLAN_HLEN, offset)
            return VLAN_HLEN


__all__ = ["receive"]
