"""What the sample shop sells and to whom: three tenants, their goods, and names for customers."""

from __future__ import annotations

from typing import NamedTuple


class Tenant(NamedTuple):
    """An organization of the demo. `share` of the traffic is its own; goods are (code, name, price in cents)."""

    id: str
    slug: str
    currency: str
    share: float
    goods: tuple[tuple[str, str, int], ...]


ACME = Tenant(
    "org_acme",
    "acme-outfitters",
    "EUR",
    0.45,
    (
        ("TSHIRT-ORG-BLK-M", "Organic cotton T-shirt, black, M", 2490),
        ("TSHIRT-ORG-WHT-L", "Organic cotton T-shirt, white, L", 2490),
        ("HOODIE-ZIP-NVY-M", "Zip hoodie, navy, M", 6900),
        ("JKT-SHELL-GRN-L", "Three-layer shell jacket, moss green, L", 28900),
        ("JKT-DOWN-BLU-S", "Down jacket 700 fill, blue, S", 21900),
        ("TRS-HIKE-GRY-32", "Hiking trousers, stone grey, 32", 9900),
        ("SOCK-MERINO-3P", "Merino socks, three pairs", 2700),
        ("BEANIE-WOOL-RED", "Wool beanie, brick red", 2200),
        ("BOOT-MID-BRN-43", "Mid hiking boot, brown, 43", 17900),
        ("PACK-DAY-24L", "Day pack, 24 l", 11900),
        ("TENT-2P-ULTRA", "Two-person tent, 1.4 kg", 44900),
        ("BTL-STEEL-750", "Insulated steel bottle, 750 ml", 3290),
    ),
)
NORTHWIND = Tenant(
    "org_northwind",
    "northwind-coffee",
    "USD",
    0.35,
    (
        ("ETH-YIRG-250", "Ethiopia Yirgacheffe, whole bean, 250 g", 1450),
        ("ETH-YIRG-1000", "Ethiopia Yirgacheffe, whole bean, 1 kg", 4890),
        ("COL-HUILA-250", "Colombia Huila, whole bean, 250 g", 1290),
        ("BRA-CERR-1000", "Brazil Cerrado, whole bean, 1 kg", 3690),
        ("KEN-AA-250", "Kenya AA, whole bean, 250 g", 1690),
        ("DECAF-SWISS-250", "Swiss-water decaf, 250 g", 1390),
        ("BLEND-HOUSE-500", "House espresso blend, 500 g", 1990),
        ("V60-CERAMIC-02", "Ceramic dripper, size 02", 2600),
        ("FILTER-02-100", "Paper filters 02, 100 pieces", 790),
        ("GRIND-HAND-38", "Hand grinder, 38 mm burrs", 12900),
        ("KETTLE-GOOSE-1L", "Gooseneck kettle, 1 l", 8900),
        ("CUP-ESPR-SET6", "Espresso cups, set of six", 3490),
    ),
)
MONITOR = Tenant(
    "org_demo_monitor",
    "demo-monitor",
    "GBP",
    0.20,
    (
        ("NB-A5-DOT-BLK", "Notebook A5, dotted, black", 1450),
        ("NB-A6-RULED-RED", "Notebook A6, ruled, red", 990),
        ("PEN-GEL-05-BLU", "Gel pen 0.5, blue", 320),
        ("PENCIL-HB-12", "Pencils HB, box of twelve", 680),
        ("INK-BLUEBLACK-50", "Fountain pen ink, blue-black, 50 ml", 1290),
        ("TAPE-WASHI-5", "Washi tape, five rolls", 890),
    ),
)
TENANTS = (ACME, NORTHWIND, MONITOR)

GIVEN_NAMES = (
    "Ada", "Amara", "Anton", "Beatriz", "Chidi", "Clara", "Daniel", "Elif", "Emma", "Farid", "Giulia", "Hana", "Igor",
    "Ines", "Jonas", "Kaito", "Leila", "Lucía", "Mateo", "Mei", "Noah", "Nora", "Olga", "Omar", "Priya", "Rafael",
    "Sofia", "Tariq", "Yuki", "Zoë",
)  # fmt: skip
FAMILY_NAMES = (
    "Almeida", "Andersson", "Bauer", "Bianchi", "Brown", "Castro", "Chen", "Demir", "Dubois", "Eze", "Fischer",
    "García", "Haddad", "Ivanova", "Jensen", "Kim", "Kowalski", "López", "Mäkinen", "Mbeki", "Nakamura", "O’Neill",
    "Patel", "Rossi", "Schäfer", "Silva", "Suzuki", "Taylor", "van Dijk", "Yılmaz",
)  # fmt: skip
CITIES = (
    ("Lisbon", "PT"), ("Berlin", "DE"), ("Kyoto", "JP"), ("Portland", "US"), ("Leeds", "GB"), ("Lyon", "FR"),
    ("Turin", "IT"), ("Gdańsk", "PL"), ("Malmö", "SE"), ("Nairobi", "KE"), ("Bogotá", "CO"), ("Izmir", "TR"),
)  # fmt: skip
WAREHOUSES = ("Rotterdam", "Porto", "Chicago")
