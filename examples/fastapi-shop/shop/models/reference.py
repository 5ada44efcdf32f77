"""Reference data that a migration seeds: currencies, countries, tax rates."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shop.models.base import Base, Identified, one_of


class Currency(Base):
    """A currency by its ISO 4217 code."""

    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(String(3), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    exponent: Mapped[int] = mapped_column(server_default=text("2"))


class Country(Base):
    """A country by its ISO 3166 code."""

    __tablename__ = "countries"

    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    currency_code: Mapped[str] = mapped_column(ForeignKey("currencies.code"))
    is_eu_member: Mapped[bool] = mapped_column(server_default=text("false"))

    tax_rates: Mapped[list[TaxRate]] = relationship(back_populates="country")


class TaxRate(Identified, Base):
    """What a country takes of a category of goods, in hundredths of a per cent."""

    __tablename__ = "tax_rates"
    __table_args__ = (
        UniqueConstraint("country_code", "category"),
        CheckConstraint("rate_basis_points between 0 and 10000", name="rate_in_range"),
        one_of("category", "standard", "reduced", "zero"),
    )

    country_code: Mapped[str] = mapped_column(ForeignKey("countries.code"))
    category: Mapped[str] = mapped_column(String(20))
    rate_basis_points: Mapped[int]

    country: Mapped[Country] = relationship(back_populates="tax_rates")
