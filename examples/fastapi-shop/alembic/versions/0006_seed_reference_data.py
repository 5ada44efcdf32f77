"""A data migration: the currencies, countries and tax rates that every shop starts with."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# ISO 4217: code, name, digits after the point.
CURRENCIES = [
    ("EUR", "Euro", 2),
    ("GBP", "Pound sterling", 2),
    ("USD", "US dollar", 2),
    ("CHF", "Swiss franc", 2),
    ("SEK", "Swedish krona", 2),
    ("DKK", "Danish krone", 2),
    ("NOK", "Norwegian krone", 2),
    ("PLN", "Polish zloty", 2),
    ("CZK", "Czech koruna", 2),
    ("JPY", "Yen", 0),
]

# ISO 3166: code, name, currency, member of the EU, standard rate and reduced rate in basis points.
COUNTRIES = [
    ("AT", "Austria", "EUR", True, 2000, 1000),
    ("BE", "Belgium", "EUR", True, 2100, 600),
    ("CH", "Switzerland", "CHF", False, 810, 260),
    ("CZ", "Czechia", "CZK", True, 2100, 1200),
    ("DE", "Germany", "EUR", True, 1900, 700),
    ("DK", "Denmark", "DKK", True, 2500, None),
    ("EE", "Estonia", "EUR", True, 2200, 900),
    ("ES", "Spain", "EUR", True, 2100, 1000),
    ("FI", "Finland", "EUR", True, 2550, 1400),
    ("FR", "France", "EUR", True, 2000, 550),
    ("GB", "United Kingdom", "GBP", False, 2000, 500),
    ("IE", "Ireland", "EUR", True, 2300, 1350),
    ("IT", "Italy", "EUR", True, 2200, 1000),
    ("JP", "Japan", "JPY", False, 1000, 800),
    ("LU", "Luxembourg", "EUR", True, 1700, 800),
    ("NL", "Netherlands", "EUR", True, 2100, 900),
    ("NO", "Norway", "NOK", False, 2500, 1500),
    ("PL", "Poland", "PLN", True, 2300, 800),
    ("PT", "Portugal", "EUR", True, 2300, 600),
    ("SE", "Sweden", "SEK", True, 2500, 1200),
    ("US", "United States", "USD", False, 0, None),
]

currencies = sa.table("currencies", sa.column("code"), sa.column("name"), sa.column("exponent"))
countries = sa.table(
    "countries", sa.column("code"), sa.column("name"), sa.column("currency_code"), sa.column("is_eu_member")
)
tax_rates = sa.table("tax_rates", sa.column("country_code"), sa.column("category"), sa.column("rate_basis_points"))


def upgrade() -> None:
    """Insert the rows; the tax rates in order, so that their ids are the same in every template."""
    op.bulk_insert(
        currencies, [{"code": code, "name": name, "exponent": exponent} for code, name, exponent in CURRENCIES]
    )
    op.bulk_insert(
        countries,
        [
            {"code": code, "name": name, "currency_code": currency, "is_eu_member": is_eu_member}
            for code, name, currency, is_eu_member, _standard, _reduced in COUNTRIES
        ],
    )
    rates = []
    for code, _name, _currency, _is_eu_member, standard, reduced in COUNTRIES:
        rates.append({"country_code": code, "category": "standard", "rate_basis_points": standard})
        if reduced is not None:
            rates.append({"country_code": code, "category": "reduced", "rate_basis_points": reduced})
    for rate in rates:
        op.execute(tax_rates.insert().values(**rate))


def downgrade() -> None:
    """Delete the rows."""
    for table in (tax_rates, countries, currencies):
        op.execute(table.delete())
