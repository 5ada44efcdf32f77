"""The back office's view of plain tables: one router each."""

from __future__ import annotations

from fastapi import APIRouter

from shop import models
from shop.crud import crud_router, read_router

CRUD_PATHS: dict[str, type[models.Base]] = {
    "/admin/currencies": models.Currency,
    "/admin/countries": models.Country,
    "/admin/tax-rates": models.TaxRate,
    "/admin/brands": models.Brand,
    "/admin/categories": models.Category,
    "/admin/products": models.Product,
    "/admin/variants": models.ProductVariant,
    "/admin/images": models.ProductImage,
    "/admin/tags": models.Tag,
    "/admin/product-tags": models.ProductTag,
    "/admin/price-lists": models.PriceList,
    "/admin/prices": models.Price,
    "/admin/warehouses": models.Warehouse,
    "/admin/stock-items": models.StockItem,
    "/admin/suppliers": models.Supplier,
    "/admin/purchase-orders": models.PurchaseOrder,
    "/admin/purchase-order-lines": models.PurchaseOrderLine,
    "/admin/customer-groups": models.CustomerGroup,
    "/admin/customers": models.Customer,
    "/admin/addresses": models.Address,
    "/admin/wishlist-items": models.WishlistItem,
    "/admin/gift-cards": models.GiftCard,
    "/admin/carriers": models.Carrier,
    "/admin/shipping-methods": models.ShippingMethod,
    "/admin/promotions": models.Promotion,
    "/admin/coupons": models.Coupon,
    "/admin/reviews": models.Review,
    "/admin/pages": models.Page,
    "/admin/blog-posts": models.BlogPost,
    "/admin/support-cases": models.SupportCase,
    "/admin/webhooks": models.Webhook,
}

READ_PATHS: dict[str, type[models.Base]] = {
    "/admin/orders": models.Order,
    "/admin/order-events": models.OrderEvent,
    "/admin/payments": models.Payment,
    "/admin/refunds": models.Refund,
    "/admin/reservations": models.StockReservation,
    "/admin/movements": models.StockMovement,
    "/admin/redemptions": models.CouponRedemption,
    "/admin/emails": models.EmailMessage,
    "/admin/deliveries": models.WebhookDelivery,
    "/admin/audit": models.AuditEntry,
}


def table_routers() -> list[APIRouter]:
    """One router per table."""
    return [crud_router(model, path) for path, model in CRUD_PATHS.items()] + [
        read_router(model, path) for path, model in READ_PATHS.items()
    ]
