import anyio

import nats_anyio


async def main() -> None:
    async with nats_anyio.connect("nats://127.0.0.1:4222", name="billing") as nc:
        await nc.subscribe("price", callback=lambda msg: msg.respond(b"42"))
        async with nc.subscribe("orders.*", queue="workers", max_msgs=2) as orders:
            await nc.publish("orders.new", b"a book", headers={"Trace": "1"})
            await nc.publish("orders.paid", b"a book")
            async for msg in orders:
                print(msg.subject, msg.data, msg.headers)
        print((await nc.request("price", b"a book", timeout=1.0)).data)
        await nc.drain()


anyio.run(main)  # or anyio.run(main, backend="trio")
