"""Publishes one message to a topic exchange with pika: URL EXCHANGE ROUTING-KEY BODY."""

import sys

import pika

url, exchange, routing_key, body = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare(exchange=exchange, exchange_type="topic", durable=True)
channel.confirm_delivery()
channel.basic_publish(
    exchange=exchange,
    routing_key=routing_key,
    body=body.encode(),
    properties=pika.BasicProperties(content_type="application/json", delivery_mode=2),
)
connection.close()
