/*
 * Prints as JSON what Xen's public headers (Debian's libxen-dev) and Linux's uapi say about every layout and number in
 * xnet/abi: {module: {"constants": {name: value}, "structs": {name: [size, [[field, offset, size, signed], ...]]}}}.
 * A number that Python spells under another name, or that follows from a layout, is printed under Python's name.
 */
#include <errno.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#define xen_mb() __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/foreign/x86_64.h>
#include <xen/grant_table.h>
#include <xen/io/netif.h>
#include <xen/io/ring.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>

static const char *comma = "";

static void number(const char *name, long long value)
{
    printf("%s\n    \"%s\": %lld", comma, name, value);
    comma = ",";
}

static void field(const char *name, size_t offset, size_t size, int is_signed)
{
    printf("%s[\"%s\", %zu, %zu, %s]", comma, name, offset, size, is_signed ? "true" : "false");
    comma = ", ";
}

static void open_struct(const char *name, size_t size)
{
    printf("%s\n    \"%s\": [%zu, [", comma, name, size);
    comma = "";
}

static void close_struct(void)
{
    printf("]]");
    comma = ",";
}

static void open_module(const char *name, const char *before)
{
    printf("%s\"%s\": {\"constants\": {", before, name);
    comma = "";
}

static void structs(void)
{
    printf("\n  }, \"structs\": {");
    comma = "";
}

static void close_module(void)
{
    printf("\n  }}");
}

#define NUMBER(name) number(#name, (long long)(name))
#define FIELD(type, name, member) \
    field(name, offsetof(type, member), sizeof(((type *)0)->member), (__typeof__(((type *)0)->member))-1 < 1)

static void xen(void)
{
    open_module("xen", "");
    number("PAGE_SHIFT", XEN_PAGE_SHIFT);
    number("PAGE_SIZE", 1 << XEN_PAGE_SHIFT);
    NUMBER(DOMID_FIRST_RESERVED);
    NUMBER(DOMID_SELF);
    NUMBER(DOMID_INVALID);
    structs();
    close_module();
}

static void ring(void)
{
    open_module("xen.ring", ",\n");
    number("REQ_PROD", offsetof(netif_tx_sring_t, req_prod) / sizeof(RING_IDX));
    number("REQ_EVENT", offsetof(netif_tx_sring_t, req_event) / sizeof(RING_IDX));
    number("RSP_PROD", offsetof(netif_tx_sring_t, rsp_prod) / sizeof(RING_IDX));
    number("RSP_EVENT", offsetof(netif_tx_sring_t, rsp_event) / sizeof(RING_IDX));
    number("HEADER_SIZE", offsetof(netif_tx_sring_t, ring));
    number("MASK32", (RING_IDX)-1);
    structs();
    close_module();
}

static void netif(void)
{
    open_module("xen.netif", ",\n");
    number("TX_SLOT_SIZE", sizeof(union netif_tx_sring_entry));
    number("RX_SLOT_SIZE", sizeof(union netif_rx_sring_entry));
    number("CTRL_SLOT_SIZE", sizeof(union xen_netif_ctrl_sring_entry));
    number("RING_SLOTS", __CONST_RING_SIZE(netif_tx, 4096));
    number("RING_SLOTS (rx)", __CONST_RING_SIZE(netif_rx, 4096));
    NUMBER(NETTXF_csum_blank);
    NUMBER(NETTXF_data_validated);
    NUMBER(NETTXF_more_data);
    NUMBER(NETTXF_extra_info);
    NUMBER(NETRXF_data_validated);
    NUMBER(NETRXF_csum_blank);
    NUMBER(NETRXF_more_data);
    NUMBER(NETRXF_extra_info);
    NUMBER(NETRXF_gso_prefix);
    NUMBER(XEN_NETIF_EXTRA_TYPE_NONE);
    NUMBER(XEN_NETIF_EXTRA_TYPE_GSO);
    NUMBER(XEN_NETIF_EXTRA_TYPE_MCAST_ADD);
    NUMBER(XEN_NETIF_EXTRA_TYPE_MCAST_DEL);
    NUMBER(XEN_NETIF_EXTRA_TYPE_HASH);
    NUMBER(XEN_NETIF_EXTRA_TYPE_MAX);
    NUMBER(XEN_NETIF_EXTRA_FLAG_MORE);
    NUMBER(XEN_NETIF_GSO_TYPE_NONE);
    NUMBER(XEN_NETIF_GSO_TYPE_TCPV4);
    NUMBER(XEN_NETIF_GSO_TYPE_TCPV6);
    number("XEN_NETIF_RSP_OKAY", NETIF_RSP_OKAY);
    number("XEN_NETIF_RSP_NULL", NETIF_RSP_NULL);
    number("XEN_NETIF_RSP_ERROR", NETIF_RSP_ERROR);
    number("XEN_NETIF_RSP_DROPPED", NETIF_RSP_DROPPED);
    NUMBER(XEN_NETIF_MAX_TX_SIZE);
    NUMBER(XEN_NETIF_NR_SLOTS_MIN);
    NUMBER(XEN_NETIF_CTRL_TYPE_INVALID);
    NUMBER(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS);
    NUMBER(XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS);
    NUMBER(XEN_NETIF_CTRL_TYPE_SET_HASH_KEY);
    NUMBER(XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE);
    NUMBER(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE);
    NUMBER(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING);
    NUMBER(XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM);
    NUMBER(XEN_NETIF_CTRL_STATUS_SUCCESS);
    NUMBER(XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED);
    NUMBER(XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER);
    NUMBER(XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW);
    NUMBER(XEN_NETIF_CTRL_HASH_ALGORITHM_NONE);
    NUMBER(XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ);
    NUMBER(XEN_NETIF_CTRL_HASH_TYPE_IPV4);
    NUMBER(XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
    NUMBER(XEN_NETIF_CTRL_HASH_TYPE_IPV6);
    NUMBER(XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP);
    structs();
    open_struct("TX_REQUEST", sizeof(netif_tx_request_t));
    FIELD(netif_tx_request_t, "gref", gref);
    FIELD(netif_tx_request_t, "offset", offset);
    FIELD(netif_tx_request_t, "flags", flags);
    FIELD(netif_tx_request_t, "id", id);
    FIELD(netif_tx_request_t, "size", size);
    close_struct();
    open_struct("TX_RESPONSE", sizeof(netif_tx_response_t));
    FIELD(netif_tx_response_t, "id", id);
    FIELD(netif_tx_response_t, "status", status);
    close_struct();
    open_struct("RX_REQUEST", sizeof(netif_rx_request_t));
    FIELD(netif_rx_request_t, "id", id);
    FIELD(netif_rx_request_t, "pad", pad);
    FIELD(netif_rx_request_t, "gref", gref);
    close_struct();
    open_struct("RX_RESPONSE", sizeof(netif_rx_response_t));
    FIELD(netif_rx_response_t, "id", id);
    FIELD(netif_rx_response_t, "offset", offset);
    FIELD(netif_rx_response_t, "flags", flags);
    FIELD(netif_rx_response_t, "status", status);
    close_struct();
    open_struct("EXTRA_GSO", sizeof(netif_extra_info_t));
    FIELD(netif_extra_info_t, "type", type);
    FIELD(netif_extra_info_t, "flags", flags);
    FIELD(netif_extra_info_t, "size", u.gso.size);
    FIELD(netif_extra_info_t, "gso_type", u.gso.type);
    FIELD(netif_extra_info_t, "pad", u.gso.pad);
    FIELD(netif_extra_info_t, "features", u.gso.features);
    close_struct();
    open_struct("EXTRA_MCAST", sizeof(netif_extra_info_t));
    FIELD(netif_extra_info_t, "type", type);
    FIELD(netif_extra_info_t, "flags", flags);
    field("addr", offsetof(netif_extra_info_t, u.mcast.addr), sizeof(((netif_extra_info_t *)0)->u.mcast.addr), 0);
    close_struct();
    open_struct("EXTRA_HASH", sizeof(netif_extra_info_t));
    FIELD(netif_extra_info_t, "type", type);
    FIELD(netif_extra_info_t, "flags", flags);
    FIELD(netif_extra_info_t, "hash_type", u.hash.type);
    FIELD(netif_extra_info_t, "algorithm", u.hash.algorithm);
    field("value", offsetof(netif_extra_info_t, u.hash.value), sizeof(((netif_extra_info_t *)0)->u.hash.value), 0);
    close_struct();
    open_struct("CTRL_REQUEST", sizeof(struct xen_netif_ctrl_request));
    FIELD(struct xen_netif_ctrl_request, "id", id);
    FIELD(struct xen_netif_ctrl_request, "type", type);
    FIELD(struct xen_netif_ctrl_request, "data0", data[0]);
    FIELD(struct xen_netif_ctrl_request, "data1", data[1]);
    FIELD(struct xen_netif_ctrl_request, "data2", data[2]);
    close_struct();
    open_struct("CTRL_RESPONSE", sizeof(struct xen_netif_ctrl_response));
    FIELD(struct xen_netif_ctrl_response, "id", id);
    FIELD(struct xen_netif_ctrl_response, "type", type);
    FIELD(struct xen_netif_ctrl_response, "status", status);
    FIELD(struct xen_netif_ctrl_response, "data", data);
    close_struct();
    close_module();
}

static void grant_table(void)
{
    open_module("xen.grant_table", ",\n");
    number("GRANT_ENTRIES_PER_FRAME", 4096 / sizeof(grant_entry_v1_t));
    NUMBER(GNTTAB_NR_RESERVED_ENTRIES);
    NUMBER(GNTTAB_RESERVED_CONSOLE);
    NUMBER(GNTTAB_RESERVED_XENSTORE);
    NUMBER(GTF_invalid);
    NUMBER(GTF_permit_access);
    NUMBER(GTF_accept_transfer);
    NUMBER(GTF_transitive);
    NUMBER(GTF_type_mask);
    NUMBER(GTF_readonly);
    NUMBER(GTF_reading);
    NUMBER(GTF_writing);
    NUMBER(GTF_transfer_committed);
    NUMBER(GTF_transfer_completed);
    NUMBER(GNTST_okay);
    NUMBER(GNTST_general_error);
    NUMBER(GNTST_bad_domain);
    NUMBER(GNTST_bad_gntref);
    NUMBER(GNTST_bad_handle);
    NUMBER(GNTST_bad_virt_addr);
    NUMBER(GNTST_bad_dev_addr);
    NUMBER(GNTST_no_device_space);
    NUMBER(GNTST_permission_denied);
    NUMBER(GNTST_bad_page);
    NUMBER(GNTST_bad_copy_arg);
    NUMBER(GNTST_address_too_big);
    NUMBER(GNTST_eagain);
    NUMBER(GNTST_no_space);
    NUMBER(GNTCOPY_source_gref);
    NUMBER(GNTCOPY_dest_gref);
    structs();
    open_struct("GRANT_ENTRY_V1", sizeof(grant_entry_v1_t));
    FIELD(grant_entry_v1_t, "flags", flags);
    FIELD(grant_entry_v1_t, "domid", domid);
    FIELD(grant_entry_v1_t, "frame", frame);
    close_struct();
    close_module();
}

static void event_channel(void)
{
    typedef struct shared_info_x86_64 shared_info; /* the 64-bit guest's view, whatever we are compiled for */

    open_module("xen.event_channel", ",\n");
    number("EVTCHN_UPCALL_PENDING", offsetof(shared_info, vcpu_info[0].evtchn_upcall_pending));
    number("EVTCHN_UPCALL_MASK", offsetof(shared_info, vcpu_info[0].evtchn_upcall_mask));
    number("EVTCHN_PENDING_SEL", offsetof(shared_info, vcpu_info[0].evtchn_pending_sel));
    number("EVTCHN_PENDING", offsetof(shared_info, evtchn_pending));
    number("EVTCHN_MASK", offsetof(shared_info, evtchn_mask));
    number("EVTCHN_2L_NR_CHANNELS", 8 * sizeof(((shared_info *)0)->evtchn_pending));
    NUMBER(EVTCHNSTAT_closed);
    NUMBER(EVTCHNSTAT_unbound);
    NUMBER(EVTCHNSTAT_interdomain);
    number("EVTCHNSTAT_virq", EVTCHNSTAT_virq);
    NUMBER(EVTCHNSTAT_ipi);
    structs();
    close_module();
}

static void xenbus(void)
{
    open_module("xen.xenbus", ",\n");
    number("Unknown", XenbusStateUnknown);
    number("Initialising", XenbusStateInitialising);
    number("InitWait", XenbusStateInitWait);
    number("Initialised", XenbusStateInitialised);
    number("Connected", XenbusStateConnected);
    number("Closing", XenbusStateClosing);
    number("Closed", XenbusStateClosed);
    number("Reconfiguring", XenbusStateReconfiguring);
    number("Reconfigured", XenbusStateReconfigured);
    structs();
    close_module();
}

static void xs_wire(void)
{
    open_module("xen.xs_wire", ",\n");
    NUMBER(XS_CONTROL);
    NUMBER(XS_DIRECTORY);
    NUMBER(XS_READ);
    NUMBER(XS_GET_PERMS);
    NUMBER(XS_WATCH);
    NUMBER(XS_UNWATCH);
    NUMBER(XS_TRANSACTION_START);
    NUMBER(XS_TRANSACTION_END);
    NUMBER(XS_INTRODUCE);
    NUMBER(XS_RELEASE);
    NUMBER(XS_GET_DOMAIN_PATH);
    NUMBER(XS_WRITE);
    NUMBER(XS_MKDIR);
    NUMBER(XS_RM);
    NUMBER(XS_SET_PERMS);
    NUMBER(XS_WATCH_EVENT);
    NUMBER(XS_ERROR);
    NUMBER(XS_IS_DOMAIN_INTRODUCED);
    NUMBER(XS_RESUME);
    NUMBER(XS_SET_TARGET);
    NUMBER(XS_RESET_WATCHES);
    NUMBER(XS_DIRECTORY_PART);
    NUMBER(XS_INVALID);
    NUMBER(XENSTORE_PAYLOAD_MAX);
    NUMBER(XENSTORE_ABS_PATH_MAX);
    NUMBER(XENSTORE_REL_PATH_MAX);
    NUMBER(XENSTORE_RING_SIZE);
    number("REQ", offsetof(struct xenstore_domain_interface, req));
    number("RSP", offsetof(struct xenstore_domain_interface, rsp));
    number("REQ_CONS", offsetof(struct xenstore_domain_interface, req_cons));
    number("REQ_PROD", offsetof(struct xenstore_domain_interface, req_prod));
    number("RSP_CONS", offsetof(struct xenstore_domain_interface, rsp_cons));
    number("RSP_PROD", offsetof(struct xenstore_domain_interface, rsp_prod));
    number("SERVER_FEATURES", offsetof(struct xenstore_domain_interface, server_features));
    number("CONNECTION", offsetof(struct xenstore_domain_interface, connection));
    number("ERROR", offsetof(struct xenstore_domain_interface, error));
    NUMBER(XENSTORE_SERVER_FEATURE_RECONNECTION);
    NUMBER(XENSTORE_SERVER_FEATURE_ERROR);
#ifdef XENSTORE_SERVER_FEATURE_WATCHDEPTH /* newer than Xen 4.17 */
    NUMBER(XENSTORE_SERVER_FEATURE_WATCHDEPTH);
#endif
    NUMBER(XENSTORE_CONNECTED);
    NUMBER(XENSTORE_RECONNECT);
    NUMBER(XENSTORE_ERROR_NONE);
    NUMBER(XENSTORE_ERROR_COMM);
    NUMBER(XENSTORE_ERROR_RINGIDX);
    NUMBER(XENSTORE_ERROR_PROTO);
    structs();
    open_struct("XSD_SOCKMSG", sizeof(struct xsd_sockmsg));
    FIELD(struct xsd_sockmsg, "type", type);
    FIELD(struct xsd_sockmsg, "req_id", req_id);
    FIELD(struct xsd_sockmsg, "tx_id", tx_id);
    FIELD(struct xsd_sockmsg, "len", len);
    close_struct();
    printf("\n  }, \"errors\": [");
    comma = "";
    for (size_t i = 0; i < sizeof xsd_errors / sizeof xsd_errors[0]; i++, comma = ", ")
        printf("%s\"%s\"", comma, xsd_errors[i].errstring);
    printf("]}");
}

static void tun(void)
{
    open_module("linux.tun", ",\n");
    NUMBER(TUNSETIFF);
    NUMBER(TUNSETPERSIST);
    NUMBER(TUNSETOFFLOAD);
    NUMBER(TUNGETIFF);
    NUMBER(TUNSETSNDBUF);
    NUMBER(TUNSETVNETHDRSZ);
    NUMBER(TUNSETQUEUE);
    NUMBER(TUNSETCARRIER);
    NUMBER(IFF_TAP);
    NUMBER(IFF_NAPI);
    NUMBER(IFF_MULTI_QUEUE);
    NUMBER(IFF_ATTACH_QUEUE);
    NUMBER(IFF_DETACH_QUEUE);
    NUMBER(IFF_NO_PI);
    NUMBER(IFF_VNET_HDR);
    NUMBER(TUN_F_CSUM);
    NUMBER(TUN_F_TSO4);
    NUMBER(TUN_F_TSO6);
    NUMBER(TUN_F_TSO_ECN);
    NUMBER(IFNAMSIZ);
    number("TAP_MAX_MTU", 0xFFFF - ETH_HLEN); /* the driver's limit: an Ethernet frame of 16 bits' length */
    structs();
    close_module();
}

static void virtio_net(void)
{
    open_module("linux.virtio_net", ",\n");
    number("VNET_HDR_SIZE", sizeof(struct virtio_net_hdr));
    NUMBER(VIRTIO_NET_HDR_F_NEEDS_CSUM);
    NUMBER(VIRTIO_NET_HDR_F_DATA_VALID);
    NUMBER(VIRTIO_NET_HDR_GSO_NONE);
    NUMBER(VIRTIO_NET_HDR_GSO_TCPV4);
    NUMBER(VIRTIO_NET_HDR_GSO_UDP);
    NUMBER(VIRTIO_NET_HDR_GSO_TCPV6);
    NUMBER(VIRTIO_NET_HDR_GSO_ECN);
    structs();
    open_struct("VNET_HDR", sizeof(struct virtio_net_hdr));
    FIELD(struct virtio_net_hdr, "flags", flags);
    FIELD(struct virtio_net_hdr, "gso_type", gso_type);
    FIELD(struct virtio_net_hdr, "hdr_len", hdr_len);
    FIELD(struct virtio_net_hdr, "gso_size", gso_size);
    FIELD(struct virtio_net_hdr, "csum_start", csum_start);
    FIELD(struct virtio_net_hdr, "csum_offset", csum_offset);
    close_struct();
    close_module();
}

static void if_packet(void)
{
    open_module("linux.if_packet", ",\n");
    NUMBER(PACKET_ADD_MEMBERSHIP);
    NUMBER(PACKET_DROP_MEMBERSHIP);
    NUMBER(PACKET_STATISTICS);
    NUMBER(PACKET_AUXDATA);
    NUMBER(PACKET_VNET_HDR);
    NUMBER(PACKET_IGNORE_OUTGOING);
    NUMBER(PACKET_MR_PROMISC);
    NUMBER(PACKET_MR_ALLMULTI);
    NUMBER(PACKET_MR_UNICAST);
    NUMBER(TP_STATUS_VLAN_VALID);
    NUMBER(TP_STATUS_VLAN_TPID_VALID);
    structs();
    open_struct("PACKET_MREQ", sizeof(struct packet_mreq));
    FIELD(struct packet_mreq, "mr_ifindex", mr_ifindex);
    FIELD(struct packet_mreq, "mr_type", mr_type);
    FIELD(struct packet_mreq, "mr_alen", mr_alen);
    field("mr_address", offsetof(struct packet_mreq, mr_address), sizeof(((struct packet_mreq *)0)->mr_address), 0);
    close_struct();
    open_struct("TPACKET_STATS", sizeof(struct tpacket_stats));
    FIELD(struct tpacket_stats, "tp_packets", tp_packets);
    FIELD(struct tpacket_stats, "tp_drops", tp_drops);
    close_struct();
    open_struct("TPACKET_AUXDATA", sizeof(struct tpacket_auxdata));
    FIELD(struct tpacket_auxdata, "tp_status", tp_status);
    FIELD(struct tpacket_auxdata, "tp_len", tp_len);
    FIELD(struct tpacket_auxdata, "tp_snaplen", tp_snaplen);
    FIELD(struct tpacket_auxdata, "tp_mac", tp_mac);
    FIELD(struct tpacket_auxdata, "tp_net", tp_net);
    FIELD(struct tpacket_auxdata, "tp_vlan_tci", tp_vlan_tci);
    FIELD(struct tpacket_auxdata, "tp_vlan_tpid", tp_vlan_tpid);
    close_struct();
    close_module();
}

int main(void)
{
    printf("{");
    xen();
    ring();
    netif();
    grant_table();
    event_channel();
    xenbus();
    xs_wire();
    tun();
    if_packet();
    virtio_net();
    printf("}\n");
    return 0;
}
