"""All models; importing this module fills `Base.metadata`, which Alembic and the tests read."""

from shop.models.audit import AuditEntry, SessionWitness
from shop.models.base import Base
from shop.models.catalogue import (
    Brand,
    Category,
    Price,
    PriceList,
    Product,
    ProductImage,
    ProductTag,
    ProductVariant,
    Tag,
)
from shop.models.content import BlogPost, Page
from shop.models.customers import Address, Customer, CustomerGroup, LoyaltyEntry, WishlistItem
from shop.models.inventory import (
    PurchaseOrder,
    PurchaseOrderLine,
    StockItem,
    StockMovement,
    StockReservation,
    Supplier,
    Warehouse,
)
from shop.models.jobs import EmailMessage, Job, Webhook, WebhookDelivery
from shop.models.orders import Cart, CartLine, Order, OrderEvent, OrderLine
from shop.models.payments import GiftCard, Payment, Refund
from shop.models.promotions import Coupon, CouponRedemption, Promotion
from shop.models.reference import Country, Currency, TaxRate
from shop.models.reviews import Review, ReviewVote
from shop.models.shipping import Carrier, Shipment, ShippingMethod, TrackingEvent
from shop.models.support import SupportCase, SupportMessage

__all__ = [
    "Address",
    "AuditEntry",
    "Base",
    "BlogPost",
    "Brand",
    "Carrier",
    "Cart",
    "CartLine",
    "Category",
    "Country",
    "Coupon",
    "CouponRedemption",
    "Currency",
    "Customer",
    "CustomerGroup",
    "EmailMessage",
    "GiftCard",
    "Job",
    "LoyaltyEntry",
    "Order",
    "OrderEvent",
    "OrderLine",
    "Page",
    "Payment",
    "Price",
    "PriceList",
    "Product",
    "ProductImage",
    "ProductTag",
    "ProductVariant",
    "Promotion",
    "PurchaseOrder",
    "PurchaseOrderLine",
    "Refund",
    "Review",
    "ReviewVote",
    "SessionWitness",
    "Shipment",
    "ShippingMethod",
    "StockItem",
    "StockMovement",
    "StockReservation",
    "Supplier",
    "SupportCase",
    "SupportMessage",
    "Tag",
    "TaxRate",
    "TrackingEvent",
    "Warehouse",
    "Webhook",
    "WebhookDelivery",
    "WishlistItem",
]
