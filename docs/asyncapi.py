"""The topic as an AsyncAPI 3 document: https://www.asyncapi.com/docs/reference/specification/v3.0.0."""

from typing import Any, Final

from streamhub import __version__
from streamhub.config import Settings
from streamhub.core import ids
from streamhub.core.event_schema import CHANGE, EVENT, PUBLISHED, UUID7
from streamhub.core.records import AFTER, ID
from streamhub.kafka.topic import PARTITIONS, REPLICAS, RETENTION, limit_for

_BINDINGS: Final = "0.5.0"
_FIELDS: Final = Settings.model_fields

HEADERS: Final[dict[str, Any]] = {
    "content-type": {"const": "application/json"},
    "ce_specversion": {"const": "1.0"},
    "ce_source": {"type": "string", "description": "`/` and the organization's slug."},
    "ce_type": {"type": "string", "description": "The event's type."},
    "ce_organization": {"type": "string", "description": "The organization's id, as the key."},
    "ce_test": {"enum": ["true", "false"], "description": "The environment."},
    ID: {"type": "string", "pattern": UUID7, "description": "The event's id."},
    AFTER: {
        "type": "string",
        "pattern": "^[0-9a-f-]{36}$",
        "description": "The id of an event after which this one is the partition's next. One above the greatest "
        "id that was read shows a gap.",
    },
}


def document() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Streamhub's topic",
            "version": __version__,
            "description": "Every event of every organization, with KAFKA_BOOTSTRAP_SERVERS set. An event may come "
            "more than once: keep the greatest `ce_id` of each partition, and drop what is not above it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "brokers": {
                "host": (_FIELDS["kafka_bootstrap_servers"].examples or [""])[0].split(",")[0],
                "protocol": "kafka",
                "description": "KAFKA_BOOTSTRAP_SERVERS, with the protocol of KAFKA_SECURITY_PROTOCOL.",
            }
        },
        "channels": {
            "events": {
                "address": _FIELDS["kafka_topic"].default,
                "description": "KAFKA_TOPIC. An organization's events are in one partition, in the order of their ids.",
                "messages": {"event": {"$ref": "#/components/messages/event"}},
                "bindings": {
                    "kafka": {
                        "partitions": PARTITIONS,
                        "replicas": REPLICAS,
                        "topicConfiguration": {
                            "cleanup.policy": ["delete"],
                            "retention.ms": int(RETENTION),
                            "max.message.bytes": limit_for(_FIELDS["max_event_bytes"].default),
                        },
                        "bindingVersion": _BINDINGS,
                    }
                },
            }
        },
        "operations": {
            "publishEvents": {
                "action": "send",
                "summary": "The leading relay sends each event that history has.",
                "channel": {"$ref": "#/channels/events"},
                "messages": [{"$ref": "#/channels/events/messages/event"}],
            }
        },
        "components": {
            "messages": {
                "event": {
                    "title": "An event",
                    "summary": "CloudEvents 1.0 in binary mode: the value is the event, the attributes are headers.",
                    "contentType": "application/json",
                    "headers": {"type": "object", "required": list(HEADERS), "properties": HEADERS},
                    "payload": {"$ref": "#/components/schemas/Event"},
                    "bindings": {
                        "kafka": {
                            "key": {"type": "string", "description": "The organization's id."},
                            "bindingVersion": _BINDINGS,
                        }
                    },
                    "examples": [_example(CHANGE), _example(PUBLISHED)],
                }
            },
            "schemas": {"Event": EVENT},
        },
    }


def _example(event: Any) -> dict[str, Any]:
    return {
        "name": event["type"],
        "headers": {
            "content-type": "application/json",
            "ce_specversion": "1.0",
            "ce_source": f"/{event['organization']['slug']}",
            "ce_type": event["type"],
            "ce_organization": event["organization"]["id"],
            "ce_test": "true" if event["test"] else "false",
            ID: event["id"],
            AFTER: ids.MIN_ID,
        },
        "payload": event,
    }
