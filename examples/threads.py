import nats_sync

with nats_sync.connect("nats://127.0.0.1:4222", name="billing") as nc:
    nc.subscribe("price", callback=lambda msg: msg.respond(b"42"))  # callbacks: one at a time, in order
    with nc.subscribe("orders.*", queue="workers", max_msgs=2) as orders:
        nc.publish("orders.new", b"a book", headers={"Trace": "1"})
        nc.publish("orders.paid", b"a book")
        for msg in orders:
            print(msg.subject, msg.data, msg.headers)
    print(nc.request("price", b"a book", timeout=1.0).data)
    try:
        nc.request("nobody.listens", b"")
    except nats_sync.errors.NoRespondersError as error:
        print(error)
    nc.drain()
